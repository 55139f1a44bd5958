"""Boolean circuits between the two key holders of a pair, on XOR-shared bits (GMW)."""
