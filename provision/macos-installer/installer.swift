// Installs macOS into the disk of a virtual Mac, with Apple's Virtualization.framework. vmkit compiles it on the user's Mac.
//
//   installer latest
//       asks Apple for the newest restore image that this Mac can run, and says where it is
//   installer install --restore-image FILE --folder FOLDER --disk FILE --cpus N --memory BYTES
//       makes FOLDER/HardwareModel, FOLDER/MachineIdentifier and FOLDER/AuxiliaryStorage, and installs to the disk,
//       a raw file that exists and has its full size
//
// Every line on stdout is one JSON object with an "event": latest, requirements, progress, done, error.
// The exit code is 0 after done or latest, 1 after error, 2 for a wrong command line.
// swiftc -swift-version 5 -O installer.swift -o installer
// codesign --sign - --entitlements entitlements.plist installer

import Foundation
import Virtualization

func emit(_ fields: [String: Any]) {
    guard var line = try? JSONSerialization.data(withJSONObject: fields, options: [.sortedKeys, .withoutEscapingSlashes])
    else { return }
    line.append(0x0A)
    FileHandle.standardOutput.write(line)
}

func fail(_ error: Error) -> Never {
    let cause = error as NSError
    var fields: [String: Any] = ["event": "error", "message": cause.localizedDescription]
    fields["domain"] = cause.domain
    fields["code"] = cause.code
    if let reason = cause.localizedFailureReason { fields["reason"] = reason }
    emit(fields)
    exit(1)
}

func fail(_ message: String) -> Never {
    emit(["event": "error", "message": message])
    exit(1)
}

func usage() -> Never {
    FileHandle.standardError.write(Data("usage: installer latest | install --restore-image FILE --folder FOLDER --disk FILE --cpus N --memory BYTES\n".utf8))
    exit(2)
}

#if arch(arm64)

func text(_ version: OperatingSystemVersion) -> String {
    "\(version.majorVersion).\(version.minorVersion).\(version.patchVersion)"
}

struct Wanted {
    let restoreImage: URL
    let folder: URL
    let disk: URL
    let cpus: Int
    let memory: UInt64

    init?(_ words: [String]) {
        var values: [String: String] = [:]
        var rest = words[...]
        while let name = rest.popFirst() {
            guard let value = rest.popFirst(), values.updateValue(value, forKey: name) == nil else { return nil }
        }
        guard values.count == 5,
            let restoreImage = values["--restore-image"], let folder = values["--folder"], let disk = values["--disk"],
            let cpus = values["--cpus"].flatMap({ Int($0) }), let memory = values["--memory"].flatMap({ UInt64($0) })
        else { return nil }
        self.restoreImage = URL(fileURLWithPath: restoreImage)
        self.folder = URL(fileURLWithPath: folder, isDirectory: true)
        self.disk = URL(fileURLWithPath: disk)
        self.cpus = cpus
        self.memory = memory
    }
}

final class Installation {
    private let wanted: Wanted
    private var machine: VZVirtualMachine?
    private var installer: VZMacOSInstaller?
    private var observation: NSKeyValueObservation?
    private var shown = -1

    init(_ wanted: Wanted) {
        self.wanted = wanted
    }

    func begin() {
        VZMacOSRestoreImage.load(from: wanted.restoreImage) { result in
            DispatchQueue.main.async {
                switch result {
                case .failure(let error): fail(error)
                case .success(let image): self.install(image)
                }
            }
        }
    }

    private func install(_ image: VZMacOSRestoreImage) {
        guard let requirements = image.mostFeaturefulSupportedConfiguration, requirements.hardwareModel.isSupported else {
            fail("this Mac cannot run macOS \(text(image.operatingSystemVersion)) as a guest: update this Mac first")
        }
        emit([
            "event": "requirements", "version": text(image.operatingSystemVersion), "build": image.buildVersion,
            "cpus": requirements.minimumSupportedCPUCount, "memory": requirements.minimumSupportedMemorySize,
        ])
        if wanted.cpus < requirements.minimumSupportedCPUCount {
            fail("this macOS needs \(requirements.minimumSupportedCPUCount) CPUs")
        }
        if wanted.memory < requirements.minimumSupportedMemorySize {
            fail("this macOS needs \(requirements.minimumSupportedMemorySize >> 20) MiB of memory")
        }
        do {
            let configuration = try configure(requirements.hardwareModel)
            try configuration.validate()
            run(VZVirtualMachine(configuration: configuration))
        } catch {
            fail(error)
        }
    }

    private func configure(_ model: VZMacHardwareModel) throws -> VZVirtualMachineConfiguration {
        let identifier = VZMacMachineIdentifier()
        try model.dataRepresentation.write(to: wanted.folder.appendingPathComponent("HardwareModel"))
        try identifier.dataRepresentation.write(to: wanted.folder.appendingPathComponent("MachineIdentifier"))

        let platform = VZMacPlatformConfiguration()
        platform.hardwareModel = model
        platform.machineIdentifier = identifier
        platform.auxiliaryStorage = try VZMacAuxiliaryStorage(
            creatingStorageAt: wanted.folder.appendingPathComponent("AuxiliaryStorage"), hardwareModel: model, options: [])

        let graphics = VZMacGraphicsDeviceConfiguration()
        graphics.displays = [VZMacGraphicsDisplayConfiguration(widthInPixels: 1920, heightInPixels: 1200, pixelsPerInch: 80)]
        let network = VZVirtioNetworkDeviceConfiguration()
        network.attachment = VZNATNetworkDeviceAttachment()
        let disk = try VZDiskImageStorageDeviceAttachment(url: wanted.disk, readOnly: false)

        let configuration = VZVirtualMachineConfiguration()
        configuration.platform = platform
        configuration.bootLoader = VZMacOSBootLoader()
        configuration.cpuCount = wanted.cpus
        configuration.memorySize = wanted.memory
        configuration.graphicsDevices = [graphics]
        configuration.networkDevices = [network]
        configuration.storageDevices = [VZVirtioBlockDeviceConfiguration(attachment: disk)]
        configuration.entropyDevices = [VZVirtioEntropyDeviceConfiguration()]
        configuration.keyboards = [VZUSBKeyboardConfiguration()]
        configuration.pointingDevices = [VZUSBScreenCoordinatePointingDeviceConfiguration()]
        return configuration
    }

    private func run(_ machine: VZVirtualMachine) {
        let installer = VZMacOSInstaller(virtualMachine: machine, restoringFromImageAt: wanted.restoreImage)
        self.machine = machine
        self.installer = installer
        observation = installer.progress.observe(\.fractionCompleted, options: [.initial, .new]) { progress, _ in
            let fraction = progress.fractionCompleted
            DispatchQueue.main.async { self.show(fraction) }
        }
        installer.install { result in
            switch result {
            case .failure(let error): fail(error)
            case .success:
                emit(["event": "done"])
                exit(0)
            }
        }
    }

    private func show(_ fraction: Double) {
        let permille = Int(fraction * 1000)
        if permille > shown {
            shown = permille
            emit(["event": "progress", "fraction": Double(permille) / 1000])
        }
    }
}

func findLatest() {
    VZMacOSRestoreImage.fetchLatestSupported { result in
        switch result {
        case .failure(let error): fail(error)
        case .success(let image):
            emit([
                "event": "latest", "url": image.url.absoluteString,
                "version": text(image.operatingSystemVersion), "build": image.buildVersion,
            ])
            exit(0)
        }
    }
}

let words = Array(CommandLine.arguments.dropFirst())
var installation: Installation?
switch words.first {
case "latest" where words.count == 1:
    findLatest()
case "install":
    guard let wanted = Wanted(Array(words.dropFirst())) else { usage() }
    installation = Installation(wanted)
    installation?.begin()
default:
    usage()
}
dispatchMain()

#else

fail("macOS guests need a Mac with Apple silicon")

#endif
