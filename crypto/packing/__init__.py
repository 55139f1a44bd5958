"""How vectors lie in plaintexts: lanes for one vector, slots for one coordinate of many."""
