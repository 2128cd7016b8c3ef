#!/bin/sh
# apt-install.sh GROUP…: installs the Debian packages of these groups that are missing, after saying which.
set -eu

packages_of() {
  case $1 in
    run) echo qemu-system-x86 e2fsprogs xz-utils swtpm swtpm-tools containernetworking-plugins iptables ;;
    build) echo gcc libc6-dev linux-libc-dev musl-tools binutils xz-utils zstd dpkg-dev ;;
    kernel) echo gcc libc6-dev make flex bison bc libelf-dev patch binutils xz-utils ;;
    example) echo busybox-static curl ;;
    test) echo tpm2-tools busybox-static erofs-utils cryptsetup-bin skopeo umoci docker-registry gnupg openssl cpio util-linux procps python3-minimal libcap2-bin iproute2 apache2-utils curl systemd zsh fish man-db groff mandoc dbus python3-dbus python3-gi ;;
    bench) echo busybox-static podman runc docker-registry skopeo umoci time ;;
    *) echo "apt-install.sh: unknown group $1" >&2; exit 2 ;;
  esac
}

missing=
for group in "$@"; do
  for package in $(packages_of "$group"); do
    case " $missing " in *" $package "*) continue ;; esac
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
  done
done
# Later steps fetch packages (sources, kernels) without installing them: the lists must be there.
lists_known() { apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1; }
if [ -z "$missing" ]; then
  lists_known || [ "$(id -u)" -ne 0 ] || apt-get update -qq
  exit 0
fi

echo "Installing with apt:$missing"
if [ "$(id -u)" -ne 0 ]; then
  echo "not root: run 'apt-get install$missing' yourself, then try again" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
