# Repeats what is typed into its console until somebody types "bye".
echo "READY for typing"
while read -r line; do
  echo "TYPED <$line>"
  [ "$line" != bye ] || break
done
echo "OK typed"
