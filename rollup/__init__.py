"""rollup"""
