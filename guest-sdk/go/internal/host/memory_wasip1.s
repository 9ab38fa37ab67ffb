// There is no assembly here. A package with a function that is only declared, as sbrk is, must have a file of it.
