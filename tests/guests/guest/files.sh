# Compares the files on its disks with the sums beside them, writes new ones with fsync on each, drops what is
# cached, and reads everything back.
i=0
for disk in /dev/vd?; do
  at=/mnt/${disk#/dev/}
  mkdir -p "$at"
  mount -t ext4 "$disk" "$at" || exit 1
  cd "$at"
  md5sum -c sums || exit 2
  for file in 1 2 3 4 5 6 7 8 9 10; do
    i=$((i + 1))
    dd if=/dev/urandom of="new$file" bs=1k count=$((i * 3)) conv=fsync 2>/dev/null
    md5sum "new$file" >>new-sums
  done
  dd if=/dev/zero of=old bs=4k seek=1 count=2 conv=notrunc,fsync 2>/dev/null
done
echo "WRITTEN"
sync
sleep 3 # at rest, so that its state is compared
echo 3 >/proc/sys/vm/drop_caches
for at in /mnt/*; do
  cd "$at"
  md5sum -c new-sums || exit 3
  echo "READ $at $(md5sum <old) $(md5sum <new-sums)"
done
cd /
for at in /mnt/*; do umount "$at" || exit 4; done
for disk in /dev/vd?; do echo "DISK $disk $(md5sum <$disk)"; done
echo "OK files"
