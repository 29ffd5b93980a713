"""A rollup of real processes, with a proxy on every way between a node and its L1 and DA server that can do harm."""

from fault_network.network import FaultNetwork, Process, open_fault_network
from fault_network.proxy import Answer, Exchange, FaultyProxy

__all__ = ["Answer", "Exchange", "FaultNetwork", "FaultyProxy", "Process", "open_fault_network"]
