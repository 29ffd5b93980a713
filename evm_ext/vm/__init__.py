"""The virtual machine: py-evm's opcodes under our rules, and how one transaction is executed."""
