// what is not there
>> {"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x3e8",true]}
<< {"jsonrpc":"2.0","id":1,"result":null}
>> {"jsonrpc":"2.0","id":2,"method":"eth_getBlockReceipts","params":["0x37"]}
<< {"jsonrpc":"2.0","id":2,"result":null}
>> {"jsonrpc":"2.0","id":3,"method":"eth_getUncleCountByBlockNumber","params":["0x37"]}
<< {"jsonrpc":"2.0","id":3,"result":null}
>> {"jsonrpc":"2.0","id":4,"method":"eth_getUncleByBlockNumberAndIndex","params":["0x0","0x0"]}
<< {"jsonrpc":"2.0","id":4,"result":null}
>> {"jsonrpc":"2.0","id":5,"method":"eth_getHeaderByNumber","params":["pending"]}
<< {"jsonrpc":"2.0","id":5,"result":null}
>> {"jsonrpc":"2.0","id":6,"method":"eth_getRawTransactionByBlockNumberAndIndex","params":["0x0","0x0"]}
<< {"jsonrpc":"2.0","id":6,"result":null}

// get-storage-values, of one account, of several, of none
>> {"jsonrpc":"2.0","id":1,"method":"eth_getStorageValues","params":[{"0x7dcd17433742f4c0ca53122ab541d0ba67fc27df":["0x0000000000000000000000000000000000000000000000000000000000000000"],"0xc1cadaffffffffffffffffffffffffffffffffff":["0x0100000000000000000000000000000000000000000000000000000000000000"]},"latest"]}
<< {"jsonrpc":"2.0","id":1,"result":{"0x7dcd17433742f4c0ca53122ab541d0ba67fc27df":["0x0000000000000000000000000000000000000000000000000000000000000038"],"0xc1cadaffffffffffffffffffffffffffffffffff":["0x0000000000000000000000000000000000000000000000000000000000000000"]}}
>> {"jsonrpc":"2.0","id":2,"method":"eth_getStorageValues","params":[{},"latest"]}
<< {"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"empty request"}}

// filter-error-future-block-range, filter-error-reversed-block-range, filter-error-invalid-blockHash-and-range
>> {"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"fromBlock":"0x0","toBlock":"0x38"}]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"block range extends beyond current head block"}}
>> {"jsonrpc":"2.0","id":2,"method":"eth_getLogs","params":[{"fromBlock":"0x38","toBlock":"0x3a"}]}
<< {"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"block range extends beyond current head block"}}
>> {"jsonrpc":"2.0","id":3,"method":"eth_getLogs","params":[{"fromBlock":"0x38","toBlock":"latest"}]}
<< {"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"invalid block range params"}}
>> {"jsonrpc":"2.0","id":4,"method":"eth_getLogs","params":[{"blockHash":"0xa54da6f03fa509ff00f062ff00ab1352614307374d7664c6e40d9764252dd3a0","fromBlock":"0x3","toBlock":"0x4"}]}
<< {"jsonrpc":"2.0","id":4,"error":{"code":-32602,"message":"invalid argument 0: cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other"}}
>> {"jsonrpc":"2.0","id":5,"method":"eth_getLogs","params":[{"address":null,"topics":null}]}
<< {"jsonrpc":"2.0","id":5,"result":[]}

// get-storage-invalid-key
>> {"jsonrpc":"2.0","id":1,"method":"eth_getStorageAt","params":["0xaa00000000000000000000000000000000000000","0xasdf","latest"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32602}}
>> {"jsonrpc":"2.0","id":2,"method":"eth_getStorageAt","params":["0xaa00000000000000000000000000000000000000","0x00000000000000000000000000000000000000000000000000000000000000000","latest"]}
<< {"jsonrpc":"2.0","id":2,"error":{"code":-32602}}

// get-config (EIP-7910)
>> {"jsonrpc":"2.0","id":1,"method":"eth_config"}
<< {"jsonrpc":"2.0","id":1,"result":{"current":{"activationTime":0,"blobSchedule":{"target":6,"max":9,"baseFeeUpdateFraction":5007716},"chainId":"0xc72dd9d5e883e","precompiles":{"BLAKE2F":"0x0000000000000000000000000000000000000009","BLS12_G1ADD":"0x000000000000000000000000000000000000000b","BLS12_G1MSM":"0x000000000000000000000000000000000000000c","BLS12_G2ADD":"0x000000000000000000000000000000000000000d","BLS12_G2MSM":"0x000000000000000000000000000000000000000e","BLS12_MAP_FP2_TO_G2":"0x0000000000000000000000000000000000000011","BLS12_MAP_FP_TO_G1":"0x0000000000000000000000000000000000000010","BLS12_PAIRING_CHECK":"0x000000000000000000000000000000000000000f","BN254_ADD":"0x0000000000000000000000000000000000000006","BN254_MUL":"0x0000000000000000000000000000000000000007","BN254_PAIRING":"0x0000000000000000000000000000000000000008","ECREC":"0x0000000000000000000000000000000000000001","ID":"0x0000000000000000000000000000000000000004","KZG_POINT_EVALUATION":"0x000000000000000000000000000000000000000a","MODEXP":"0x0000000000000000000000000000000000000005","RIPEMD160":"0x0000000000000000000000000000000000000003","SHA256":"0x0000000000000000000000000000000000000002"},"systemContracts":{"BEACON_ROOTS_ADDRESS":"0x000f3df6d732807ef1319fb7b8bb8522d0beac02","CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS":"0x0000bbddc7ce488642fb579f8b00f3a590007251","DEPOSIT_CONTRACT_ADDRESS":"0x00000000219ab540356cbb839cbe05303d7705fa","HISTORY_STORAGE_ADDRESS":"0x0000f90827f1c53a10cb7a02335b175320002935","WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS":"0x00000961ef480eb55e80d19ad83579a64c007002"}},"next":null,"last":null}}

// get-capabilities
>> {"jsonrpc":"2.0","id":1,"method":"eth_capabilities"}
<< {"jsonrpc":"2.0","id":1,"result":{"head":{"number":"0x0"},"state":{"disabled":false,"oldestBlock":"0x0"},"tx":{"disabled":false,"oldestBlock":"0x0"},"logs":{"disabled":false,"oldestBlock":"0x0"},"receipts":{"disabled":false,"oldestBlock":"0x0"},"blocks":{"disabled":false,"oldestBlock":"0x0"},"stateproofs":{"disabled":false,"oldestBlock":"0x0"}}}

// the node holds no keys, and wallets that probe for eth_fillTransaction need to be told so
>> {"jsonrpc":"2.0","id":1,"method":"eth_sign","params":["0xc100000000000000000000000000000000000000","0x00"]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000}}
>> {"jsonrpc":"2.0","id":2,"method":"eth_sendTransaction","params":[{"from":"0xc100000000000000000000000000000000000000"}]}
<< {"jsonrpc":"2.0","id":2,"error":{"code":-32000}}
>> {"jsonrpc":"2.0","id":3,"method":"eth_fillTransaction","params":[{}]}
<< {"jsonrpc":"2.0","id":3,"error":{"code":-32601}}
>> {"jsonrpc":"2.0","id":4,"method":"eth_accounts"}
<< {"jsonrpc":"2.0","id":4,"result":[]}
>> {"jsonrpc":"2.0","id":5,"method":"eth_syncing"}
<< {"jsonrpc":"2.0","id":5,"result":false}
>> {"jsonrpc":"2.0","id":6,"method":"net_version"}
<< {"jsonrpc":"2.0","id":6,"result":"3503995874084926"}
>> {"jsonrpc":"2.0","id":7,"method":"eth_blobBaseFee"}
<< {"jsonrpc":"2.0","id":7,"result":"0x1"}

// get-current-basefee, of the next block, and what geth calls modules
>> {"jsonrpc":"2.0","id":1,"method":"eth_baseFee"}
<< {"jsonrpc":"2.0","id":1,"result":"0x342770c0"}
>> {"jsonrpc":"2.0","id":2,"method":"rpc_modules"}
<< {"jsonrpc":"2.0","id":2,"result":{"eth":"1.0","net":"1.0","web3":"1.0","txpool":"1.0","debug":"1.0"}}

// get-content-from-address
>> {"jsonrpc":"2.0","id":1,"method":"txpool_contentFrom","params":["0x0000000000000000000000000000000000000000"]}
<< {"jsonrpc":"2.0","id":1,"result":{"pending":{},"queued":{}}}
