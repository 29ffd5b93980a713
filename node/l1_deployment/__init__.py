"""A network's L1 contracts on any L1, by transactions: planned, sent, checked."""

from openledger.node.l1_deployment.checks import Check, check_network
from openledger.node.l1_deployment.deployment import Deployment, DeploymentFailed, Taken
from openledger.node.l1_deployment.plan import Terms
from openledger.node.l1_deployment.simulation import simulated_l1

__all__ = ["Check", "Deployment", "DeploymentFailed", "Taken", "Terms", "check_network", "simulated_l1"]
