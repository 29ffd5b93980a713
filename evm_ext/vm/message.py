"""What a computation is asked to do: py-evm's `Message` without its checks, for frames are made by the machine itself."""

from __future__ import annotations


class Message:
    """A call or a creation. `to` is empty for a creation, whose `code` is the initialisation code and whose
    `create_address` is where the contract goes. `depth` counts calls from 0; gas and value are integers, addresses
    20 bytes. `code_address` is where the code comes from (None: `to`); `refund` is gas that the transaction
    gives back whatever happens (EIP-7702)."""

    __slots__ = (
        "code",
        "code_address",
        "create_address",
        "data",
        "depth",
        "gas",
        "is_create",
        "is_delegation",
        "is_static",
        "refund",
        "sender",
        "should_transfer_value",
        "storage_address",
        "to",
        "value",
    )

    def __init__(
        self,
        gas: int,
        to: bytes,
        sender: bytes,
        value: int,
        data: bytes,
        code: bytes,
        depth: int = 0,
        create_address: bytes | None = None,
        code_address: bytes | None = None,
        should_transfer_value: bool = True,
        is_static: bool = False,
        is_delegation: bool = False,
        refund: int = 0,
    ) -> None:
        self.gas = gas
        self.to = to
        self.sender = sender
        self.value = value
        self.data = data
        self.code = code
        self.depth = depth
        self.create_address = create_address
        self.storage_address = to if create_address is None else create_address
        self.code_address = to if code_address is None else code_address
        self.should_transfer_value = should_transfer_value
        self.is_static = is_static
        self.is_delegation = is_delegation
        self.refund = refund
        self.is_create = not to

    @property
    def data_as_bytes(self) -> bytes:
        return bytes(self.data)
