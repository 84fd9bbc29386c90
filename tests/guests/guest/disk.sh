# Reads the disk, writes to it, and reads it again from the device itself.
echo "BEFORE $(md5sum </dev/vda)"
dd if=/dev/zero of=/dev/vda bs=4k seek=8 count=4 conv=notrunc,fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
echo "AFTER $(md5sum </dev/vda)"
echo "OK disk"
