# Writes to its disk before "READY" and after, and reads all of it back from the device.
dd if=/dev/zero of=/dev/vda bs=4k seek=2 count=4 conv=notrunc,fsync 2>/dev/null
echo "READY, $(md5sum </dev/vda)"
sleep 1
dd if=/proc/cmdline of=/dev/vda bs=4k seek=9 count=1 conv=notrunc,fsync 2>/dev/null
echo 3 >/proc/sys/vm/drop_caches
echo "AFTER $(md5sum </dev/vda)"
echo "OK late"
