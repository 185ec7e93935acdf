"""The machine types and CPUs that UTM 5.0.3 (QEMU 10.0) lists for each architecture: it refuses every other type."""

from collections.abc import Mapping

_RELEASES = (
    *(f"2.{minor}" for minor in range(4, 13)),
    *("3.0", "3.1", "4.0", "4.1", "4.2", "5.0", "5.1", "5.2", "6.0", "6.1", "6.2"),
    *("7.0", "7.1", "7.2", "8.0", "8.1", "8.2", "9.0", "9.1", "9.2", "10.0"),
)


def _versions(prefix: str, since: str) -> str:
    return " ".join(f"{prefix}{release}" for release in _RELEASES[_RELEASES.index(since) :])


_PC = "isapc q35 pc none microvm pc-q35-4.0.1 " + _versions("pc-q35-", "2.4") + " " + _versions("pc-i440fx-", "2.4")
_ARM = """
    integratorcp kzm mps2-an385 mps2-an386 mps2-an500 mps2-an505 mps2-an511 mps2-an521 mps3-an524 mps3-an536 mps3-an547
    musca-a musca-b1 realview-eb-mpcore realview-eb realview-pbx-a9 realview-pb-a8 vexpress-a15 vexpress-a9 versatileab
    versatilepb imx25-pdk ast1030-evb ast2500-evb ast2600-evb b-l475e-iot01a microbit bpim2u g220a-bmc highbank midway
    canon-a1100 bletchley-bmc fuji-bmc tiogapass-bmc yosemitev2-bmc fby35-bmc sabrelite mcimx6ul-evk mcimx7d-sabre
    rainier-bmc fp5280g2-bmc kudo-bmc musicpal fby35 mori-bmc netduino2 netduinoplus2 npcm750-evb sonorapass-bmc
    olimex-stm32-h405 palmetto-bmc romulus-bmc witherspoon-bmc orangepi-pc virt qcom-dc-scm-v1-bmc qcom-firework-bmc
    quanta-gbs-bmc quanta-gsj quanta-q71l-bmc raspi2b raspi1ap raspi0 stm32vldiscovery nuri smdkc210 collie sx1-v1 sx1
    emcraft-sf2 lm3s6965evb lm3s811evb supermicrox11-bmc supermicro-x11spi-bmc xilinx-zynq-a9 cubieboard none
    """ + _versions("virt-", "2.6")
_PPC = "amigaone pegasos2 g3beige 40p mac99 virtex-ml507 sam460ex bamboo none ppce500 mpc8544ds"
_XTENSA = "none kc705 kc705-nommu lx200 lx200-nommu lx60 lx60-nommu ml605 ml605-nommu sim virt"
_MICROBLAZE = "petalogix-s3adsp1800 petalogix-ml605 xlnx-zynqmp-pmu none"

TARGETS: Mapping[str, frozenset[str]] = {
    architecture: frozenset(names.split())
    for architecture, names in {
        "alpha": "clipper none",
        "arm": _ARM,
        "aarch64": _ARM
        + """ vmapple ast2700-evb ast2700a0-evb ast2700a1-evb imx8mp-evk npcm845-evb sbsa-ref raspi3ap raspi3b raspi4b
        xlnx-versal-virt xlnx-zcu102""",
        "avr": "2009 arduino-duemilanove mega arduino-mega mega2560 arduino-mega-2560-v3 uno arduino-uno none",
        "hppa": "B160L C3700 none",
        "i386": _PC,
        "loongarch64": "virt none",
        "m68k": "an5206 mcf5208evb q800 next-cube virt none " + _versions("virt-", "6.0"),
        "microblaze": _MICROBLAZE,
        "microblazeel": _MICROBLAZE,
        "mips": "mipssim malta none",
        "mipsel": "mipssim malta none",
        "mips64": "pica61 mipssim magnum malta none",
        "mips64el": "pica61 fuloong2e loongson3-virt boston mipssim magnum malta none",
        "or1k": "none or1k-sim virt",
        "ppc": _PPC,
        "ppc64": _PPC
        + " powernv powernv10 powernv10-rainier powernv8 powernv9 pseries "
        + _versions("pseries-", "3.0"),
        "riscv32": "amd-microblaze-v-generic opentitan sifive_e sifive_u spike virt none",
        "riscv64": "amd-microblaze-v-generic microchip-icicle-kit shakti_c sifive_e sifive_u spike virt none",
        "rx": "none gdbsim-r5f562n7 gdbsim-r5f562n8",
        "s390x": "s390-ccw-virtio none " + _versions("s390-ccw-virtio-", "2.9"),
        "sh4": "none r2d",
        "sh4eb": "none r2d",
        "sparc": "leon3_generic SPARCClassic SPARCbook SS-600MP SS-10 SS-20 SS-4 SS-5 LX Voyager none",
        "sparc64": "sun4u sun4v niagara none",
        "tricore": "KIT_AURIX_TC277_TRB tricore_testboard none",
        "x86_64": _PC,
        "xtensa": _XTENSA,
        "xtensaeb": _XTENSA,
    }.items()
}

_X86_FAMILIES = """
    486:1 Broadwell:4 Cascadelake-Server:5 ClearwaterForest:1 Conroe:1 Cooperlake:2 Denverton:3 Dhyana:2 EPYC:4
    EPYC-Genoa:1 EPYC-Milan:2 EPYC-Rome:4 GraniteRapids:2 Haswell:4 Icelake-Server:7 IvyBridge:2 KnightsMill:1 Nehalem:2
    Opteron_G1:1 Opteron_G2:1 Opteron_G3:1 Opteron_G4:1 Opteron_G5:1 Penryn:1 SandyBridge:2 SapphireRapids:3
    SierraForest:2 Skylake-Client:4 Skylake-Server:5 Snowridge:4 Westmere:2 YongFeng:2 athlon:1 core2duo:1 coreduo:1
    kvm32:1 kvm64:1 n270:1 pentium:1 pentium2:1 pentium3:1 phenom:1 qemu32:1 qemu64:1
"""
_X86 = frozenset(
    [
        "default",
        "max",
        "base",
        "Broadwell-IBRS",
        "Broadwell-noTSX",
        "Broadwell-noTSX-IBRS",
        "Cascadelake-Server-noTSX",
        "EPYC-IBPB",
        "Haswell-IBRS",
        "Haswell-noTSX",
        "Haswell-noTSX-IBRS",
        "Icelake-Server-noTSX",
        "IvyBridge-IBRS",
        "Nehalem-IBRS",
        "SandyBridge-IBRS",
        "Skylake-Client-IBRS",
        "Skylake-Client-noTSX-IBRS",
        "Skylake-Server-IBRS",
        "Skylake-Server-noTSX-IBRS",
        "Westmere-IBRS",
    ]
).union(
    name
    for family, _, versions in (entry.partition(":") for entry in _X86_FAMILIES.split())
    for name in (family, *(f"{family}-v{version}" for version in range(1, int(versions) + 1)))
)
_ARM_CPUS = """
    default pxa250 pxa255 pxa260 pxa261 pxa262 pxa270 pxa270-a0 pxa270-a1 pxa270-b0 pxa270-b1 pxa270-c0 pxa270-c5
    arm1026 arm1136 arm1136-r2 arm1176 arm11mpcore arm926 arm946 cortex-a15 cortex-a7 cortex-a8 cortex-a9 cortex-m0
    cortex-m3 cortex-m33 cortex-m4 cortex-m55 cortex-m7 cortex-r5 cortex-r52 cortex-r5f max sa1100 sa1110 ti925t
"""

# Only for these do we know UTM's whole list; elsewhere every name is taken.
CPUS: Mapping[str, frozenset[str]] = {
    "arm": frozenset(_ARM_CPUS.split()),
    "aarch64": frozenset(
        (
            _ARM_CPUS
            + """a64fx cortex-a35 cortex-a53 cortex-a55 cortex-a57 cortex-a710 cortex-a72 cortex-a76 host neoverse-n1
            neoverse-n2 neoverse-v1"""
        ).split()
    ),
    "i386": _X86,
    "x86_64": _X86,
}
