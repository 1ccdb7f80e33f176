import noisy

noisy.kept = noisy.Noisy()
print("end of file")
