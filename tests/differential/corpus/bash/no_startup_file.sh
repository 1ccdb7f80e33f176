echo "${FROM-nothing was read before}" *
