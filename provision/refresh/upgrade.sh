# Brings every package of a Debian guest to the newest version that its archive has, without a question; files that were
# changed by hand stay. By hand, as root: sh upgrade.sh. A kernel that is booted from outside the disk is on hold.
set -eu
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive

apt() {
  apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold "$@"
}

dpkg --configure -a
apt -o APT::Update::Error-Mode=any update # a source that does not answer would pass for one without news
apt dist-upgrade
apt clean
