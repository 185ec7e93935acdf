import pytest

from vmkit.drivers.choice import checked_driver_name, default_driver_name, get_driver
from vmkit.errors import HostLacks, UsageError
from vmkit.host.paths import Paths
from vmkit.host.process import Runner


@pytest.fixture
def paths(tmp_path):
    return Paths(config=tmp_path, data=tmp_path, cache=tmp_path)


@pytest.fixture
def utm(tmp_path, monkeypatch):
    utmctl = tmp_path / "UTM.app/Contents/MacOS/utmctl"
    utmctl.parent.mkdir(parents=True)
    utmctl.touch()
    monkeypatch.setenv("VMKIT_UTM_APP", str(tmp_path / "UTM.app"))


def test_elsewhere_than_on_a_mac_the_default_is_qemu_even_beside_a_utm(utm):
    assert default_driver_name() == "qemu"


def test_a_driver_is_had_by_its_name(utm, paths):
    assert get_driver("utm", paths=paths, runner=Runner()).name == "utm"
    assert get_driver("qemu", paths=paths, runner=Runner()).name == "qemu"


def test_utm_where_there_is_none_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("VMKIT_UTM_APP", str(tmp_path / "none"))

    with pytest.raises(HostLacks, match="UTM is not installed") as caught:
        checked_driver_name("utm")

    assert caught.value.hint == "--driver qemu"


def test_a_driver_that_there_is_not_is_a_usage_error(paths):
    with pytest.raises(UsageError, match='"nosuch"') as caught:
        get_driver("nosuch", paths=paths, runner=Runner())

    assert caught.value.hint == "drivers: qemu, utm"
