/* Which rollout a word of an operator's names. */
#ifndef CLI_ROLLOUT_NAMED_H
#define CLI_ROLLOUT_NAMED_H

#include "cli/verb.h"

enum api_result rollouts_ask_all(struct cli *cli, json_t **reply); /* GET /api/v1/rollouts */

/* The path of the rollout that the first word names: its whole id, a type of which one is under way, or the beginning
 * of an id; else says why there is none, and *code is the exit code. The last of a type will do where it is only to be
 * looked at. */
bool rollout_find_path(struct cli *cli, bool to_look, struct api_path *path, enum cli_exit *code);

#endif
