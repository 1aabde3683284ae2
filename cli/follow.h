/* Watching a rollout to its end, and what is said then. */
#ifndef CLI_FOLLOW_H
#define CLI_FOLLOW_H

#include "cli/progress.h"
#include "cli/verb.h"

#define FOLLOW_RUNS_IT "runs it already" /* the server's word for why such a device is skipped */

/* Shows `rollout` (taken over), asks for it until it is over or halted, and says how it ended. An interrupt ends the
 * watching and nothing else. */
enum cli_exit follow_rollout(struct cli *cli, json_t *rollout);

void follow_read(const json_t *rollout, struct progress *progress);

/* The end of one that is over or halted: the summary, why it is no success and what to do, and the devices that have
 * not got it; or the document. `path` is the rollout's. --to asks for each device that it names. */
enum cli_exit follow_end(struct cli *cli, const struct api_path *path, json_t *rollout);

#endif
