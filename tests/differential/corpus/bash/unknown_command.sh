nonexistent_command --flag
echo "status $?"
./main.sh.missing
echo "status $?"
/sandbox
echo "status $?"
exit
