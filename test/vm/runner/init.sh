#!/bin/busybox sh
# The guest's first process. It stays in the initial file system, which has busybox; the command runs in the root that is
# put together here. What it has to say goes to the port "status": started, exit STATUS, or failed REASON.
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /share /root /lib /lower
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
. /settings

while read -r module; do insmod "/modules/$module"; done </modules/order

# The device of the virtio port of this name.
port() {
  for _ in $(seq 100); do
    for port in /sys/class/virtio-ports/*; do
      if [ "$(cat "$port/name" 2>&1)" = "$1" ]; then
        echo "/dev/${port##*/}"
        return
      fi
    done
    usleep 50000
  done
}

exec 3>"$(port status)"
say() { echo "$*" >&3; }
fail() {
  say "failed $*"
  while :; do sleep 1000; done
}

mount -t virtiofs -o ro share /share || fail "the share cannot be mounted"

# The kernel loads modules by what it finds here.
ln -s /share/kernel/lib/modules /lib/modules
echo /bin/modprobe >/proc/sys/kernel/modprobe
modprobe loop
modprobe overlay

# The command's root is a tmpfs with the tree's directories: no overlay, since only two of those may lie on one another.
mount -t tmpfs -o mode=755 root /root
top=${project#/}
top=${top%%/*}
for entry in /share/tree/*; do
  name=${entry##*/}
  case $name in
    proc | sys | dev | run | tmp | lost+found) continue ;;
    "$top") [ "$foreign" ] && [ ! -e "/share/tree$project" ] && continue ;;
  esac
  if [ -L "$entry" ]; then
    cp -P "$entry" "/root/$name"
  elif [ -d "$entry" ]; then
    mkdir "/root/$name"
    mount -o bind "$entry" "/root/$name" || fail "cannot show /$name"
  fi
done
cd /root || fail "no root"
mkdir -p proc sys dev run tmp
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm
mount -t devpts -o ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s /proc/self/fd dev/fd
for stream in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${stream%:*}" "dev/${stream#*:}"; done
mount -t tmpfs -o mode=755 run run
mkdir -m 700 run/home
[ -d var/tmp ] && mount -t tmpfs -o mode=1777 tmp var/tmp
mount -t ext4 /dev/vda tmp || fail "the disk cannot be mounted"
rmdir tmp/lost+found
chmod 1777 tmp

# The project, on which writes do not reach the share. Bound to a name without commas and colons first.
mount -o bind "/share/project" /lower || fail "cannot show the project"
mkdir -p "/root$project" || fail "there is no place for $project"
mkdir /writes
mount -t tmpfs writes /writes
mkdir /writes/upper /writes/work
mount -t overlay -o lowerdir=/lower,upperdir=/writes/upper,workdir=/writes/work project "/root$project" ||
  fail "the project cannot be mounted"
number=0
while IFS= read -r target; do
  mkdir -p "/root$target" && mount -o bind "/share/bind-$number" "/root$target" || fail "there is no place for $target"
  number=$((number + 1))
done </binds

ifconfig lo up
ulimit -H -n 524288
cp /job run/job
mkfifo /out /errors
cat /out >"$(port out)" &
out=$!
cat /errors >"$(port errors)" &
errors=$!

mount --move . / || fail "no root"
say started
chroot . /bin/sh /run/job </dev/null >/out 2>/errors 3>&- &
wait $!
status=$?

# Whatever the command has left running holds its output open.
for _ in 1 2 3 4 5; do
  for process in /proc/[0-9]*; do
    id=${process#/proc/}
    case $id in 1 | "$out" | "$errors") continue ;; esac
    readlink "$process/exe" >/dev/null && kill -KILL "$id"
  done
done 2>/dev/null
wait "$out" "$errors"
say "exit $status"
while :; do sleep 1000; done
