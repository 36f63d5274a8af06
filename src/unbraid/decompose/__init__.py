"""The engine: writes each weight matrix as a sum of rank-one subcomponents and learns which of them each input needs."""
