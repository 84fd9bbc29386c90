# Keeps its CPU busy for ever, and says from time to time how far it has counted.
i=0
while true; do
  i=$((i + 1))
  [ $((i % 20000)) != 0 ] || echo "COUNT $i"
done
