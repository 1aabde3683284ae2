/* Signatures that openssl(1) 3.0 made of the words below, and the public halves of its keys; the private ones are gone.
 *   rsa, foreign:  openssl dgst -sha256 -sign KEY.pem
 *   ed25519:       openssl pkeyutl -sign -rawin -inkey KEY.pem
 *   legacy:        openssl pkeyutl -sign -inkey KEY.pem of the bare digest, the ESP8266 core's form before 2.6
 *   pss, sha512:   openssl dgst with -sigopt rsa_padding_mode:pss, and with -sha512
 */
#ifndef TESTS_UNIT_PROTO_SIGNATURE_VECTORS_H
#define TESTS_UNIT_PROTO_SIGNATURE_VECTORS_H

#define SIGNED_WORDS "the image, byte by byte\n"

#define RSA_KEY                                                                                                        \
    "-----BEGIN PUBLIC KEY-----\n"                                                                                     \
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAjVDlnJ/eZjpV7iCIfL5v\n"                                               \
    "5Ljc/p7ksth3cExTX920Bp+ndlXYCYjSg14MKWX7wOXzDxrAbfh/+WqLGNPNxMAP\n"                                               \
    "Gq4gn+RzOnL4NWdUG4IPRFE3waebPFRC7pGcxE8qIo72VkRYiz0AXsfu35L4sxVT\n"                                               \
    "x8alt0ql92fNRI5BXhYpZzb8ZAlWBSLqbnM/cQJodmEAvSEemxuxK+oeAo8YD+WA\n"                                               \
    "pK4bXekAXjFOvlAl7lywq5KFsbjIEj/Fu5WSREQjAEEuTeCQoQGf+48cVxoQJEvd\n"                                               \
    "wIYKyB4+lGpGO4epYLklWK33XIjMzvfjzMP7czhTxWvUvFoOIMaOCJF2WiKrBpRe\n"                                               \
    "hwIDAQAB\n"                                                                                                       \
    "-----END PUBLIC KEY-----\n"

#define RSA_KEY_PKCS1                                                                                                  \
    "-----BEGIN RSA PUBLIC KEY-----\n"                                                                                 \
    "MIIBCgKCAQEAjVDlnJ/eZjpV7iCIfL5v5Ljc/p7ksth3cExTX920Bp+ndlXYCYjS\n"                                               \
    "g14MKWX7wOXzDxrAbfh/+WqLGNPNxMAPGq4gn+RzOnL4NWdUG4IPRFE3waebPFRC\n"                                               \
    "7pGcxE8qIo72VkRYiz0AXsfu35L4sxVTx8alt0ql92fNRI5BXhYpZzb8ZAlWBSLq\n"                                               \
    "bnM/cQJodmEAvSEemxuxK+oeAo8YD+WApK4bXekAXjFOvlAl7lywq5KFsbjIEj/F\n"                                               \
    "u5WSREQjAEEuTeCQoQGf+48cVxoQJEvdwIYKyB4+lGpGO4epYLklWK33XIjMzvfj\n"                                               \
    "zMP7czhTxWvUvFoOIMaOCJF2WiKrBpRehwIDAQAB\n"                                                                       \
    "-----END RSA PUBLIC KEY-----\n"

#define ED25519_KEY                                                                                                    \
    "-----BEGIN PUBLIC KEY-----\n"                                                                                     \
    "MCowBQYDK2VwAyEAS58NC3CfVDq/aQYwlKjPQ63UfO9HgBgG2CHWq6+FWik=\n"                                                   \
    "-----END PUBLIC KEY-----\n"

#define EC_KEY                                                                                                         \
    "-----BEGIN PUBLIC KEY-----\n"                                                                                     \
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQp3JJ94M3qZ8vyctbMWEn8T0Slwo\n"                                               \
    "vf8FuKnzJdiYsZE1VG5X0MW6KQCqzHL/VvXI7UMiwZ9GvZzuh8ZsI833vw==\n"                                                   \
    "-----END PUBLIC KEY-----\n"

#define SMALL_KEY                                                                                                      \
    "-----BEGIN PUBLIC KEY-----\n"                                                                                     \
    "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDD17OR+A2dQTMG+qnGtsHGyVEF\n"                                               \
    "I9x58o9ixw4bOLbCBrKQJE8CW5me2eGkgGbyfG7h8+gZhSIpOepK8tYf4gE1I1BG\n"                                               \
    "PteB5yrlraZkWdxUa6MWEHvzLu52zr+89xv5fXqLhOzHc8jBgmNRFC25UW568ZB4\n"                                               \
    "BLyZAa8t/WLvs3G6wQIDAQAB\n"                                                                                       \
    "-----END PUBLIC KEY-----\n"

#define RSA_SIGNATURE                                                                                                  \
    "6800e3911c47f253acc49718595f38b424dc74a1e2b7cb0a099b3656ef5f1be5a1e160e649db57a9faf663ad1d53ad22620c"             \
    "e7941cd8729b58ca9d0abc976d4fbfeee979bbcb5099b16253b71cd0763edb5d39ad90242eba9f78b1323392a1946e17d898"             \
    "ecb6ce557c7d00c8bd4692d14d4af5792bdb4c2939a016033ae95e48b94b3d29d362d4887337b7bb9cf4dd2feb04e86ebe3e"             \
    "9d9717f72b9a136060c86cd18d1abfe02103b051742d4e019d1197cce4afc6ce0dfb13d22b2179398894f7c652435cb40963"             \
    "1d3a25e5f19a2947b6cb865de0133864a4b4bbb1279dc260e29fd6f6df5e08c012f34c29c7970de865df4700d0c49be534c6"             \
    "711dd831db54"

#define FOREIGN_SIGNATURE                                                                                              \
    "abaff2cda0b8da49c49823712818207486fb9dce141828d1e1dc66aa3dcdffab330a27a17b16c6689e4e8c4ab57c2ca9350a"             \
    "2f5cbcc3e61c8efd2bf417f5cb6cf7310be5e51e7a3ecf9c39d2da6ab7bfd8c606009fc0819364d54398c7a352b91bb1d8a3"             \
    "4888b62c4c1b9bb6b63da8fe05e7fd72737445c38c397e2678de91a24ab3773a8b933ba10382405c3da8450fa6877fcbe22e"             \
    "d87a5c743e92abcbce57e170b3d565185393fe0ac0b11efeb811f300413030c7e045b4fea8e70c408c230c573668229aed69"             \
    "30fdded036b0a63d7b095a73227e756ca15dba8021e76ab113f5819c8e4c901e6891e98af6a0aee819757b16097b26af99a7"             \
    "635295b5211d"

#define ED25519_SIGNATURE                                                                                              \
    "9d8c66106dd9c9c394c1723911fb9c4650207df4d2ef37dbdaefbe01f125be4aac676252b4df6b8dc61f9327069abfd45ddd"             \
    "491300c6622e7d9b35ef86729603"

#define LEGACY_SIGNATURE                                                                                               \
    "37b5106870113af83e7fc7292ef2ce541ad974a0082ea50b58be6d398b80c2c6427e93e4c6389223b4bb0e65eab09701df85"             \
    "ba8dde152deafc9fb55504494f030ab01cf831287637d4c5a84da37c6f75989707591e82783109d51c1b9272df6366fd8daf"             \
    "6f47e58512463e84390695cc8ce29855367c7870501155e228bdda8505246add66d701cf6b5095ac3eeb84aa28f932870639"             \
    "25d608f4e66e71a14639b328a424907b735b1ad2aa07409065defaa884c0bf4405c9a9864f8c6dc6bcc15a6f69e007431add"             \
    "40b71ac7025b0c9d1a59798d4b259291eb87d93a85df2667f888ebde7d3272a88725908f9780c06de07a90f386a616d338d6"             \
    "39d00bd55918"

#define PSS_SIGNATURE                                                                                                  \
    "3f5d606e3c3b55e05c7f176fd3dc3bdc9cbd0c0cced91787d852bb07051ddbf173d278d69ac9a89074d9b11532ca41ebf28b"             \
    "ff31b5afb4c58246d0246bd435d0b3e007978dca587139736b1279ee28aa5eb4f9fcbd034ea0deddab85750d78deec513c94"             \
    "d966783a6e8798f5a62440f49b23ce669f6802cb5ae3721a086aaf96db7660c4b35b7ca6ccb696eeefee19b9ac48746eab6e"             \
    "0c22e0a501a4978079749ca13de08452a79a45e65d8cfbde260b6032730fce068116e32822e1aa238a286291216d6d529c2f"             \
    "699aaf8a4828646b1745d2fc9730b0ef1ebb5b14bc08069d63c0a1006701ff65cd139e9eb74b6180f9b4748b7ac0aff7fb2c"             \
    "164821f8b5f0"

#define SHA512_SIGNATURE                                                                                               \
    "48f70e7f66d3a5949ef987207a8424255f1e5f67e45792d7322a9ef5e3c8f465d262e65e6dd5aee25fa1fa182b818b2374fd"             \
    "b0b8e968077de3a2c054f4b9910f85fa662c2b84b72dd185e95f63539bd592b77f10d7bb64d9cf0bf984fb324009ab718f24"             \
    "4c1ab59232701c7383a4c119dcab690735c53ec29225022891b19806f694a85b56afdc0035eb4001fab4e248fa56bd34e1c0"             \
    "f09683f661a5dce1a4784e1516fd04c0131f392863186417f8f82202cff2918d72ef550ff394efb5a766c35af3ff53e924c0"             \
    "2e1e8bbfe02a4c48d46dbb12dc9421d9f2f961a8348149c01f9ab4feaf4f1214a2010eb86bd525a5835b2460b108fc112df4"             \
    "479bc40c8574"

#define RSA_KEY_TEXT     "rsa-2048 75e3636c9c35ded2"
#define ED25519_KEY_TEXT "ed25519 ac7efd0fe5f968b6"

#endif
