/* Watching a rollout until it ends, and judging how it ended. */
#ifndef CLI_FOLLOW_H
#define CLI_FOLLOW_H

#include "cli/progress.h"
#include "cli/verb.h"

/* Follows the rollout that `rollout` (taken over) is the first news of. */
enum cli_exit follow_rollout(struct cli *cli, json_t *rollout);

/* An answer of the server as what is shown; texts escaped. */
void follow_read(const json_t *rollout, struct progress *progress);

/* What an ended rollout means: CLI_DONE where no device failed and at least one has the build, or, where devices were
 * `named`, each of them; else CLI_FAILED, with message and remedy. */
enum cli_exit follow_judge(const struct progress *progress, bool named, char *message, char *remedy, size_t size);

#endif
