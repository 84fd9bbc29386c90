# Counts for ever, and takes a rest from time to time to say how far it has come.
i=0
while true; do
  i=$((i + 1))
  if [ $((i % 20000)) = 0 ]; then
    echo "COUNT $i"
    sleep 1
  fi
done
