// osascript -l JavaScript list.js: print UTM's machines as JSON.
function run() {
  const machines = Application("UTM").virtualMachines();
  return JSON.stringify(
    machines.map((vm) => ({ id: vm.id(), name: vm.name(), backend: vm.backend(), status: vm.status() })),
  );
}
