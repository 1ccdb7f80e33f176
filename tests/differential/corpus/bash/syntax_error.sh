echo "this is printed"
if true; then
  echo unfinished
