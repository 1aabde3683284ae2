/* The session's thread: connects, serves, pauses, for ever. Private to mqtt/.
 */
#ifndef MQTT_SESSION_WORKER_H
#define MQTT_SESSION_WORKER_H

#include "mqtt/session_letter.h"

struct worker;

/* Takes the settings over. Letters go to `to_loop`. */
struct worker *worker_start(struct session_settings *settings, struct mailbox *to_loop);

/* From the loop. The jobs are the thread's until they come back; that they do, as long as the worker is not abandoned.
 */
void worker_publish(struct worker *worker, struct mail_list *jobs);

/* The loop has taken a LETTER_MESSAGE: one more may come. */
void worker_message_taken(struct worker *worker);

uint64_t worker_dropped(const struct worker *worker);

/* Asks it to end; LETTER_ENDED follows unless it hangs. */
void worker_stop(struct worker *worker);

/* After LETTER_ENDED: waits for the thread, which is as good as gone, and frees everything. */
void worker_join(struct worker *worker);

/* Instead: from the return on no letter is posted, and the thread frees everything should it ever come back. */
void worker_abandon(struct worker *worker);

#endif
