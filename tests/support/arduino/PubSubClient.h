/* The client: what it would drop for its buffer's size is not handed on, as with the real one. */
#ifndef TESTS_SUPPORT_ARDUINO_PUBSUBCLIENT_H
#define TESTS_SUPPORT_ARDUINO_PUBSUBCLIENT_H

#include <WiFi.h>

class PubSubClient
{
  public:
    typedef void (*callback_fn)(char *topic, byte *payload, unsigned length);

    PubSubClient(WiFiClient &)
    {
    }
    void setServer(const char *, int)
    {
    }
    void setBufferSize(unsigned size)
    {
        buffer_size = size;
    }
    void setCallback(callback_fn function)
    {
        callback = function;
    }
    bool connected()
    {
        return is_connected;
    }
    bool connect(const char *id, const char *user, const char *)
    {
        printf("connect %s %s\n", id, user);
        return is_connected = true;
    }
    void subscribe(const char *topic, int qos)
    {
        printf("subscribe %s %d\n", topic, qos);
    }
    void loop()
    {
    }

    /* A fixed header of 5 bytes at most, the topic with its length, a message number. */
    void receive(std::string topic, std::string payload)
    {
        if (5 + 2 + topic.size() + 2 + payload.size() <= buffer_size) {
            callback(&topic[0], (byte *)&payload[0], (unsigned)payload.size());
        }
    }

  private:
    unsigned buffer_size = 256;
    callback_fn callback = nullptr;
    bool is_connected = false;
};

#endif
