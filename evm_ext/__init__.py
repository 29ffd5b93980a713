"""evm_ext"""
