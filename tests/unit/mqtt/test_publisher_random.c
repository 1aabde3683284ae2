/* The publisher through thousands of steps in an order that nobody thought of: send, withdraw, acknowledge, refuse,
 * cut, reconnect, let time pass. The seed is printed; UPDRAFT_SEED=n runs it again.
 *
 * What must hold whatever happens:
 *  - each command is answered exactly once, and by what became of it;
 *  - of one topic nothing is sent out of the order of acceptance, and parts go in order, each until acknowledged;
 *  - what is replaced gives way to a newer one about the same thing, not to its neighbour on the topic;
 *  - no more is on its way than the window allows, and of one topic one message at most;
 *  - nothing is sent after its caller was told that it is over;
 *  - in the end the broker keeps of each topic what was last asked of it.
 */
#include "mqtt/publisher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define STEPS        6000
#define TOPICS       30
#define ABOUTS       2 /* of each topic */
#define COMMANDS_MAX 40
#define WINDOW_MAX   6

/* What the test knows of one command. Its payloads are "<its number> <part>". */
struct record {
    size_t topic, about;
    size_t part_count, parts_acknowledged;
    uint64_t ticket;
    bool handed_out, denied, withdrawn;
    bool told;
    enum publish_result result;
    struct model *model;
};

struct model {
    uv_loop_t loop;
    struct publisher *publisher;
    struct session_view view;
    uint64_t random;
    struct session_message *on_way[WINDOW_MAX];
    size_t on_way_count;
    size_t newest[TOPICS][ABOUTS]; /* the number of the newest command about this */
    size_t last_sent[TOPICS];      /* the number of the newest command that was sent, of each topic; 0 = none */
    struct record records[STEPS + 1];
    size_t record_count;
    size_t told;
    char kept[TOPICS][16];   /* what the broker keeps; "" = nothing */
    char wanted[TOPICS][16]; /* what it should */
};

static uint64_t next_random(struct model *model)
{
    model->random ^= model->random << 13; /* xorshift64, Marsaglia 2003 */
    model->random ^= model->random >> 7;
    model->random ^= model->random << 17;
    return model->random;
}

static size_t pick(struct model *model, size_t n)
{
    return (size_t)(next_random(model) % n);
}

static void read_payload(const struct session_message *message, size_t *number, size_t *part)
{
    char text[32] = "";
    memcpy(text, message->payload, message->payload_bytes < 31 ? message->payload_bytes : 31);
    assert_int_equal(sscanf(text, "%zu %zu", number, part), 2);
}

static size_t window_of(const struct model *model)
{
    return model->view.receive_maximum < WINDOW_MAX ? model->view.receive_maximum : WINDOW_MAX;
}

static void on_publish(void *link, struct session_message *message)
{
    struct model *model = link;
    assert_int_equal(model->view.state, SESSION_CONNECTED);
    assert_true(model->on_way_count < window_of(model));
    for (size_t i = 0; i < model->on_way_count; i++) {
        assert_string_not_equal(model->on_way[i]->topic, message->topic);
    }
    model->on_way[model->on_way_count++] = message;
    if (message->retain) {
        return; /* checked by what the broker keeps in the end */
    }
    size_t number;
    size_t part;
    read_payload(message, &number, &part);
    struct record *record = &model->records[number];
    assert_true(number > 0 && number <= model->record_count);
    assert_int_equal(part, record->parts_acknowledged);
    assert_false(record->told || record->denied || record->withdrawn);
    assert_true(number >= model->last_sent[record->topic]);
    model->last_sent[record->topic] = number;
    record->handed_out = true;
}

static void on_done(void *owner, uint64_t ticket, enum publish_result result, const char *why)
{
    struct record *record = owner;
    assert_false(record->told);
    assert_int_equal(record->ticket, ticket);
    record->told = true;
    record->result = result;
    record->model->told++;
    switch (result) {
    case PUBLISH_ACKNOWLEDGED:
        assert_int_equal(record->parts_acknowledged, record->part_count);
        break;
    case PUBLISH_REPLACED:
        assert_false(record->handed_out);
        assert_true(&record->model->records[record->model->newest[record->topic][record->about]] > record);
        assert_non_null(strstr(why, "a newer command for t/"));
        break;
    case PUBLISH_WITHDRAWN:
        assert_true(record->withdrawn && !record->handed_out);
        break;
    case PUBLISH_REFUSED:
        assert_true(record->denied);
        break;
    default:
        assert_true(!record->denied && !record->withdrawn && record->parts_acknowledged < record->part_count);
        break;
    }
}

/* One or two parts; those of a topic share the first, which is the key. */
static void send_one(struct model *model, uint64_t expires_ms)
{
    size_t number = model->record_count + 1;
    struct record *record = &model->records[number];
    *record = (struct record){
        .topic = pick(model, TOPICS), .about = pick(model, ABOUTS), .part_count = 1 + pick(model, 2), .model = model
    };
    char about[32];
    char topics[2][16];
    char payloads[2][32];
    snprintf(about, sizeof about, "t/%zu (%zu)", record->topic, record->about);
    struct publisher_command command = { .about = about, .part_count = record->part_count, .expires_ms = expires_ms };
    for (size_t i = 0; i < record->part_count; i++) {
        snprintf(topics[i], sizeof topics[i], "t/%zu/%zu", record->topic, i);
        snprintf(payloads[i], sizeof payloads[i], "%zu %zu", number, i);
        command.parts[i] = (struct publisher_part){ topics[i], payloads[i], NULL };
    }
    model->record_count++; /* it may go out at once */
    size_t told = model->told;
    enum status status = publisher_send(model->publisher, &command, on_done, record, &record->ticket);
    assert_int_equal(model->told, told);
    if (status != STATUS_OK) {
        assert_int_equal(status, STATUS_BUSY);
        model->record_count--;
    } else {
        model->newest[record->topic][record->about] = number;
    }
}

static void withdraw_one(struct model *model)
{
    size_t back = pick(model, 20);
    if (model->record_count > back) {
        struct record *record = &model->records[model->record_count - back];
        bool withdrawn = publisher_withdraw(model->publisher, record->ticket);
        assert_false(withdrawn && (record->told || record->handed_out || record->withdrawn));
        record->withdrawn = record->withdrawn || withdrawn;
    }
}

static void give_back(struct model *model, size_t i, enum status status)
{
    struct session_message *message = model->on_way[i];
    model->on_way_count--;
    memmove(model->on_way + i, model->on_way + i + 1, (model->on_way_count - i) * sizeof(void *));
    message->status = status;
    if (message->retain) {
        size_t topic = (size_t)strtoul(message->topic + 2, NULL, 10);
        if (status == STATUS_OK) {
            snprintf(model->kept[topic], sizeof model->kept[topic], "%.*s", (int)message->payload_bytes,
                     (const char *)message->payload);
        }
    } else {
        size_t number;
        size_t part;
        read_payload(message, &number, &part);
        model->records[number].parts_acknowledged += status == STATUS_OK;
        model->records[number].denied = status == STATUS_DENIED || status == STATUS_TOO_LONG;
    }
    publisher_on_published(model->publisher, message);
}

/* Acknowledgements come in any order; now and then a refusal. */
static void answer_one(struct model *model, bool may_refuse)
{
    if (model->on_way_count > 0) {
        bool refuse = may_refuse && pick(model, 12) == 0;
        give_back(model, pick(model, model->on_way_count),
                  refuse ? (pick(model, 2) ? STATUS_DENIED : STATUS_TOO_LONG) : STATUS_OK);
    }
}

static void say_state(struct model *model, enum session_state state)
{
    model->view.state = state;
    model->view.connects += state == SESSION_CONNECTED;
    model->view.receive_maximum = 1 + (unsigned)pick(model, 2 * WINDOW_MAX);
    publisher_on_state(model->publisher, &model->view);
}

/* The news and the messages come in either order, with acknowledgements among them that were under way. */
static void cut(struct model *model)
{
    bool news_first = pick(model, 2) == 0;
    if (news_first) {
        say_state(model, SESSION_WAITING);
    }
    while (model->on_way_count > 0) {
        give_back(model, 0, pick(model, 8) == 0 ? STATUS_OK : STATUS_IO);
    }
    if (!news_first) {
        say_state(model, SESSION_WAITING);
    }
    assert_int_equal(model->on_way_count, 0); /* a link known to be broken gets no more */
}

static void turn(struct model *model, bool later)
{
    if (later) {
        uv_sleep(1);
    }
    uv_run(&model->loop, UV_RUN_NOWAIT);
}

static struct model *start(const char *name)
{
    struct model *model = calloc(1, sizeof *model);
    const char *seed = getenv("UPDRAFT_SEED");
    const struct publisher_config config = { WINDOW_MAX, COMMANDS_MAX, 1 << 20 };
    assert_non_null(model);
    model->random = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 2654435761u | 1;
    printf("    %s: UPDRAFT_SEED=%llu\n", name, (unsigned long long)model->random);
    uv_loop_init(&model->loop);
    model->publisher = publisher_new(&model->loop, &config);
    publisher_connect(model->publisher, &(struct publisher_link){ on_publish, model });
    model->view = (struct session_view){ .state = SESSION_CONNECTING, .receive_maximum = 65535 };
    return model;
}

/* A broker that is there, and answers until nothing is left. */
static void settle(struct model *model)
{
    if (model->view.state != SESSION_CONNECTED) {
        say_state(model, SESSION_CONNECTED);
    }
    for (int calm = 0; calm < 20; calm++) {
        while (model->on_way_count > 0) {
            answer_one(model, false);
            calm = 0;
        }
        turn(model, true);
    }
    assert_int_equal(publisher_counts(model->publisher)->waiting, 0);
    assert_int_equal(publisher_counts(model->publisher)->in_flight, 0);
}

static void finish(struct model *model)
{
    publisher_close(model->publisher, NULL, NULL);
    uv_run(&model->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&model->loop), 0);
    free(model);
}

static void step(struct model *model)
{
    bool connected = model->view.state == SESSION_CONNECTED;
    size_t choice = pick(model, 100);
    if (choice < 45) {
        send_one(model, pick(model, 4) == 0 ? 1 + pick(model, 12) : 0);
    } else if (choice < 53) {
        withdraw_one(model);
    } else if (choice < 80) {
        answer_one(model, true);
    } else if (choice < 92) {
        turn(model, choice > 89);
    } else if (connected) {
        if (choice > 96) {
            cut(model);
        }
    } else {
        say_state(model, SESSION_CONNECTED);
    }
}

static void test_commands(void **state)
{
    (void)state;
    struct model *model = start("commands");
    size_t results[PUBLISH_RESULT_COUNT] = { 0 };
    for (size_t i = 0; i < STEPS; i++) {
        step(model);
    }
    settle(model);
    assert_int_equal(model->told, model->record_count);
    for (size_t i = 1; i <= model->record_count; i++) {
        results[model->records[i].result]++;
    }
    printf("    of %zu:", model->record_count);
    for (int i = 0; i < PUBLISH_RESULT_COUNT; i++) {
        printf(" %zu %s", results[i], publish_result_word((enum publish_result)i));
        assert_int_equal(results[i], publisher_counts(model->publisher)->results[i]);
        assert_true(i == PUBLISH_STOPPED || results[i] > 0); /* else the walk was no test of it */
    }
    printf(", %d sent again\n", (int)publisher_counts(model->publisher)->retried);
    finish(model);
}

static void on_retained(void *owner, uint64_t ticket, enum publish_result result, const char *why)
{
    (void)owner;
    (void)ticket;
    (void)why;
    assert_true(result == PUBLISH_ACKNOWLEDGED || result == PUBLISH_REPLACED);
}

static void retain_one(struct model *model, size_t i)
{
    size_t topic = pick(model, TOPICS);
    char name[16];
    char payload[16];
    uint64_t ticket;
    snprintf(name, sizeof name, "t/%zu/0", topic);
    snprintf(payload, sizeof payload, "%zu", i);
    struct publisher_command command = { .part_count = 1, .parts = { { name, payload, NULL } }, .retain = true };
    if (pick(model, 3) == 0) {
        publisher_forget(model->publisher, &command);
        model->wanted[topic][0] = '\0';
    } else if (publisher_send(model->publisher, &command, on_retained, model, &ticket) == STATUS_OK) {
        snprintf(model->wanted[topic], sizeof model->wanted[topic], "%s", payload);
    }
}

/* Each time the broker loses all that it kept: none of it may be missing in the end, and nothing old be there. */
static void test_what_the_broker_keeps(void **state)
{
    (void)state;
    struct model *model = start("retained");
    for (size_t i = 1; i <= STEPS; i++) {
        size_t choice = pick(model, 100);
        if (choice < 30) {
            retain_one(model, i);
        } else if (choice < 80) {
            answer_one(model, false);
        } else if (choice < 90) {
            turn(model, false);
        } else if (model->view.state != SESSION_CONNECTED) {
            memset(model->kept, 0, sizeof model->kept);
            say_state(model, SESSION_CONNECTED);
        } else if (choice > 95) {
            cut(model);
        }
        if (i % 500 == 0) {
            settle(model);
            for (size_t k = 0; k < TOPICS; k++) {
                assert_string_equal(model->kept[k], model->wanted[k]);
            }
        }
    }
    finish(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_what_the_broker_keeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
