"""EigenDA's gRPC messages and services: the `.proto` files and what `protoc` makes of them.

The field numbers are those of EigenDA's published API; only what a client of the disperser and of a relay needs is
here. After a change: `python -m grpc_tools.protoc --proto_path=.typing --python_out=.typing --grpc_python_out=.typing
.typing/openledger/rollup/da/grpc/*.proto` at the repository's root, with grpcio-tools 1.76.0. Importing anything from
here needs the extra `eigenda`.
"""
