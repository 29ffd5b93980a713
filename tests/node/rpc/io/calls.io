// call-type-unknown: `type` is not looked at
>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"from":"0x0c2c51a0990aee1d73c1228de158688341557508","to":"0x0100000000000000000000000000000000000000","type":"0x7f"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x"}

// call-type-legacy-with-access-list
>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"accessList":[{"address":"0x0100000000000000000000000000000000000000","storageKeys":[]}],"from":"0x0c2c51a0990aee1d73c1228de158688341557508","gas":"0x30d40","input":"0x73010000000000000000000000000000000000000031505a60005260206000f3","type":"0x0"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x0000000000000000000000000000000000000000000000000000000000023367"}

// call-unfunded-sender, call-blob-fee-without-hashes
>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"from":"0xaa00000000000000000000000000000000000000","to":"0xbb00000000000000000000000000000000000000"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x"}
>> {"jsonrpc":"2.0","id":2,"method":"eth_call","params":[{"from":"0x0c2c51a0990aee1d73c1228de158688341557508","maxFeePerBlobGas":"0x1","to":"0x0100000000000000000000000000000000000000"},"latest"]}
<< {"jsonrpc":"2.0","id":2,"result":"0x"}

// call-revert-abi-panic
>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0xc100000000000000000000000000000000000000"},"latest",{"0xc100000000000000000000000000000000000000":{"code":"0x634e487b7160e01b600052600160045260246000fd"}}]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted: assert(false)","data":"0x4e487b710000000000000000000000000000000000000000000000000000000000000001"}}

// block overrides: number, time, gas limit, fee recipient, randomness, base fee, blob base fee
>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"input":"0x436000524260205245604052416060524460805260c06000f3"},"latest",{},{"number":"0x1234","time":"0x5678","gasLimit":"0x9abc","feeRecipient":"0x00000000000000000000000000000000000000ff","prevRandao":"0x0000000000000000000000000000000000000000000000000000000000000abc"}]}
<< {"jsonrpc":"2.0","id":1,"result":"0x000000000000000000000000000000000000000000000000000000000000123400000000000000000000000000000000000000000000000000000000000056780000000000000000000000000000000000000000000000000000000000009abc00000000000000000000000000000000000000000000000000000000000000ff0000000000000000000000000000000000000000000000000000000000000abc0000000000000000000000000000000000000000000000000000000000000000"}
>> {"jsonrpc":"2.0","id":3,"method":"eth_call","params":[{"from":"0x0c2c51a0990aee1d73c1228de158688341557508","gas":"0x30d40","gasPrice":"0x7","input":"0x4a6000524860205260406000f3"},"latest",{},{"baseFeePerGas":"0x6","blobBaseFee":"0x5"}]}
<< {"jsonrpc":"2.0","id":3,"result":"0x00000000000000000000000000000000000000000000000000000000000000050000000000000000000000000000000000000000000000000000000000000006"}
>> {"jsonrpc":"2.0","id":4,"method":"eth_call","params":[{},"latest",{},{"beaconRoot":"0x0000000000000000000000000000000000000000000000000000000000000001"}]}
<< {"jsonrpc":"2.0","id":4,"error":{"code":-32000,"message":"block override \"beaconRoot\" is not supported for this RPC method"}}

// a precompile may be overridden by code, or moved
>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0x0000000000000000000000000000000000000004","input":"0x1234"},"latest",{"0x0000000000000000000000000000000000000004":{"code":"0x602a60005260206000f3"}}]}
<< {"jsonrpc":"2.0","id":1,"result":"0x000000000000000000000000000000000000000000000000000000000000002a"}
>> {"jsonrpc":"2.0","id":2,"method":"eth_call","params":[{"to":"0xc100000000000000000000000000000000000000","input":"0x1234"},"latest",{"0x0000000000000000000000000000000000000004":{"movePrecompileToAddress":"0xc100000000000000000000000000000000000000"}}]}
<< {"jsonrpc":"2.0","id":2,"result":"0x1234"}

// what a sender cannot pay, in geth's words
>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"from":"0xc000000000000000000000000000000000000000","to":"0xc100000000000000000000000000000000000000","value":"0x1","gas":"0x5208"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"err: insufficient funds for gas * price + value: address 0xC000000000000000000000000000000000000000 have 0 want 1 (supplied gas 21000)"}}
>> {"jsonrpc":"2.0","id":2,"method":"eth_call","params":[{"gasPrice":"0x1","maxFeePerGas":"0x1"},"latest"]}
<< {"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"}}

// estimate-unfunded-sender, estimate-with-eip4844
>> {"jsonrpc":"2.0","id":1,"method":"eth_estimateGas","params":[{"from":"0xaa00000000000000000000000000000000000000","to":"0xbb00000000000000000000000000000000000000"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":"0x5208"}
>> {"jsonrpc":"2.0","id":2,"method":"eth_estimateGas","params":[{"blobVersionedHashes":["0x0100000000000000000000000000000000000000000000000000000000000000"],"from":"0x0c2c51a0990aee1d73c1228de158688341557508","maxFeePerBlobGas":"0x5","nonce":"0x0","to":"0x0100000000000000000000000000000000000000","type":"0x3","value":"0x1"}]}
<< {"jsonrpc":"2.0","id":2,"result":"0x5208"}

// create-al-unfunded-sender, create-al-value-transfer, create-al-contract
>> {"jsonrpc":"2.0","id":1,"method":"eth_createAccessList","params":[{"from":"0xaa00000000000000000000000000000000000000","to":"0xbb00000000000000000000000000000000000000"},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":{"accessList":[],"gasUsed":"0x5208"}}
>> {"jsonrpc":"2.0","id":2,"method":"eth_createAccessList","params":[{"from":"0x0c2c51a0990aee1d73c1228de158688341557508","nonce":"0x0","to":"0x0100000000000000000000000000000000000000","value":"0xa"},"latest"]}
<< {"jsonrpc":"2.0","id":2,"result":{"accessList":[],"gasUsed":"0x5208"}}
>> {"jsonrpc":"2.0","id":3,"method":"eth_createAccessList","params":[{"from":"0x0c2c51a0990aee1d73c1228de158688341557508","gas":"0xea60","gasPrice":"0x3b9aca00","input":"0x010203040506","nonce":"0x0","to":"0x7dcd17433742f4c0ca53122ab541d0ba67fc27df"},"latest"]}
<< {"jsonrpc":"2.0","id":3,"result":{"accessList":[{"address":"0x7dcd17433742f4c0ca53122ab541d0ba67fc27df","storageKeys":["0x0000000000000000000000000000000000000000000000000000000000000000","0x13a08e3cd39a1bc7bf9103f63f83273cced2beada9f723945176d6b983c65bd2"]}],"gasUsed":"0xca3c"}}

// create-al-abi-revert: what was touched is listed, and the failure told
>> {"jsonrpc":"2.0","id":1,"method":"eth_createAccessList","params":[{"to":"0xc100000000000000000000000000000000000000"},"latest",{"0xc100000000000000000000000000000000000000":{"code":"0x6142ff545060006000fd"}}]}
<< {"jsonrpc":"2.0","id":1,"result":{"accessList":[{"address":"0xc100000000000000000000000000000000000000","storageKeys":["0x00000000000000000000000000000000000000000000000000000000000042ff"]}],"error":"execution reverted"}}

// an account that an override made as rich as can be gets more: as in geth, it begins again
>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"from":"0x0c2c51a0990aee1d73c1228de158688341557508","to":"0xc200000000000000000000000000000000000000","value":"0x3"},"latest",{"0xc200000000000000000000000000000000000000":{"balance":"0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff","code":"0x4760005260206000f3"}}]}
<< {"jsonrpc":"2.0","id":1,"result":"0x0000000000000000000000000000000000000000000000000000000000000002"}
