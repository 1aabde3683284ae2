/* What may still be served when the keys have changed and no scan has said yet what they vouch for: fails closed. */
#ifndef REPO_WITHDRAWAL_H
#define REPO_WITHDRAWAL_H

#include "proto/signature.h"
#include "repo/catalog.h"

/* `before` with all images made rejections that none of these keys has been found to vouch for. NULL where there are
 * none, or no keys are asked for. Sealed, not adopted. */
struct catalog *withdrawal_of(const struct catalog *before, const struct signature_keys *keys);

#endif
