"""Make identity keys for a simulation: python make_keys.py FOLDER NODES."""

import sys

from secagg.integrations.flower import make_identities

make_identities(sys.argv[1], [f"node-{i}" for i in range(int(sys.argv[2]))])
