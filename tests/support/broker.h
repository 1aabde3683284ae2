/* A real mosquitto for a test: on a free port of 127.0.0.1, with a configuration, log and certificates of its own in a
 * temporary folder, and ended by its own process id. Every function fails the test loudly where it cannot do its work.
 */
#ifndef TESTS_SUPPORT_BROKER_H
#define TESTS_SUPPORT_BROKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct broker_options { /* all may be left out */
    uint16_t port;      /* 0: a free one */
    const char *user;   /* with a password: nobody else is let in */
    const char *password;
    bool tls;                 /* certificates are made: see broker_file */
    bool expired;             /* TLS: the broker's certificate is of yesterday */
    bool client_certificates; /* TLS: demanded */
    unsigned receive_maximum; /* MQTT 5's Receive Maximum, as mosquitto grants it: 20 unless said */
    unsigned message_bytes_max;
    unsigned packet_bytes_max; /* told to clients of MQTT 5 */
    unsigned keep_alive_s_max; /* told to clients of MQTT 5; at least 10 */
    const char *more;          /* lines of mosquitto.conf */
};

struct broker {
    uint16_t port;
    pid_t pid; /* 0 = not running */
    char folder[64];
    char path[128]; /* of broker_file */
};

/* Whether there is a mosquitto on this machine. */
bool broker_is_installed(void);

/* A port that nobody uses now. */
uint16_t free_port(void);

/* Writes the configuration and starts it: returns when it takes connections. */
void broker_start(struct broker *broker, const struct broker_options *options);

void broker_kill(struct broker *broker);    /* SIGKILL: without a word to anybody */
void broker_freeze(struct broker *broker);  /* SIGSTOP: connections stay, nobody answers */
void broker_thaw(struct broker *broker);    /* SIGCONT */
void broker_restart(struct broker *broker); /* after a kill: same port, nothing remembered */

/* Kills it where it still runs and removes its folder. */
void broker_close(struct broker *broker);

/* A file of its folder: "ca.pem", "client.pem" and "client.key" (signed by that CA), "other-ca.pem" (which signed
 * nothing), "log". Valid until the next call. */
const char *broker_file(struct broker *broker, const char *name);

/* Whether its log says this. */
bool broker_logged(struct broker *broker, const char *text);

#endif
