echo one
echo two
for x in; done )
echo three
