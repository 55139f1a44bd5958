"""The rings on the native kernel (crypto/kernel), which may not have been built."""
