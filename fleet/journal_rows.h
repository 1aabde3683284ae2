/* What a record and its row have in common, by name: written by journal.c, read back by journal_recall.c. What is not
 * written is not known after a restart, so each stands here once.
 */
#ifndef FLEET_JOURNAL_ROWS_H
#define FLEET_JOURNAL_ROWS_H

/* struct device, struct store_device; struct device_transfer, struct store_transfer: numbers, bytes, words. Beside them
 * the device's type, and seen_s, which may be written later (fleet/seen) */
#define DEVICE_NUMBERS(X)                                                                                              \
    X(client)                                                                                                          \
    X(chip)                                                                                                            \
    X(flash_mode)                                                                                                      \
    X(reason)                                                                                                          \
    X(has_md5)                                                                                                         \
    X(reason_fs)                                                                                                       \
    X(came_back)                                                                                                       \
    X(via_proxy)                                                                                                       \
    X(first_seen_s)                                                                                                    \
    X(flash_bytes)                                                                                                     \
    X(free_bytes)                                                                                                      \
    X(sketch_bytes)
#define DEVICE_BYTES(X) X(md5) X(address)
#define DEVICE_WORDS(X) X(version) X(fs_version) X(sdk)

#define TRANSFER_NUMBERS(X) X(bytes) X(of) X(ms) X(unix_s) X(outcome) X(failures) X(served)
#define TRANSFER_BYTES(X)   X(md5) X(before)
#define TRANSFER_WORDS(X)   X(version)

/* struct rollout_member, struct store_member; the types of state and mark differ */
#define MEMBER_NUMBERS(X) X(mac) X(attempts) X(canary) X(armed) X(unix_s)

#endif
