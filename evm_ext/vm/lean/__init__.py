"""Opcodes written lean: same gas, same failures and same results as py-evm's, without its layers of calls."""
