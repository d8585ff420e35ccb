//! First-in-first-out admission: who gets a place now, and what the others wait for. Never over-commits a node.
