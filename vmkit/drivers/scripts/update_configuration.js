// osascript -l JavaScript update_configuration.js UUID JSON: change what the JSON record names. Lists replace lists.
function run(argv) {
  const utm = Application("UTM");
  utm.updateConfiguration(utm.virtualMachines.byId(argv[0]), { with: JSON.parse(argv[1]) });
}
