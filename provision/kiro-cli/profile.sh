# Kiro CLI stays at the version that was verified. From vmkit's recipe "kiro-cli".
export KIRO_NO_AUTO_UPDATE=1
