// osascript -l JavaScript configuration.js UUID: print a machine's configuration record as JSON.
function run(argv) {
  return JSON.stringify(Application("UTM").virtualMachines.byId(argv[0]).configuration());
}
