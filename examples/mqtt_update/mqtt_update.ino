// Updates when Updraft says so, and asks once after each start: that check is what confirms the update.
// For ESP8266 and ESP32 (Arduino cores) with Nick O'Leary's PubSubClient. Fill in the lines below. It takes sketches
// only, and does not wait for a window (`mode`, `window_s` of the command).

const char *SSID = "my network", *PASSWORD = "its password";
const char *BROKER = "192.168.1.10", *BROKER_USER = "device", *BROKER_PASSWORD = "";
const char *UPDATE_URL = "http://192.168.1.10:8080/update/d1_mini"; // the type is the end of it
const char *TYPE = "d1_mini";
const char *VERSION = "0.4.9"; // the version in the name of the file that you export

#ifdef ESP8266
#include <ESP8266WiFi.h>
#include <ESP8266httpUpdate.h>
#define UPDATER ESPhttpUpdate
#else
#include <HTTPUpdate.h>
#include <WiFi.h>
#define UPDATER httpUpdate
#endif
#include <PubSubClient.h>

WiFiClient mqttLink, httpLink;
PubSubClient mqtt(mqttLink);
bool updateDue = true; // once after each start
String lastId, askedUrl = UPDATE_URL;

// The text of a member: {"id":"…","version":"…","url":"…",… Its values have no quotes in them.
String member(const String &command, const char *name)
{
    String before = String("\"") + name + "\":\"";
    int at = command.indexOf(before);
    return at < 0 ? String() : command.substring(at + before.length(), command.indexOf('"', at + before.length()));
}

// Only notes it: the update runs in loop(), where the callback's buffer is free again.
void onCommand(char *, byte *payload, unsigned length)
{
    String command;
    for (unsigned i = 0; i < length; i++) {
        command += (char)payload[i];
    }
    String id = member(command, "id");
    if (id != "" && id != lastId) { // QoS 1 may bring a command twice
        lastId = id;
        askedUrl = member(command, "url"); // names the version, where it is not the newest
        updateDue = true;
    }
}

void connectMqtt()
{
    String mac = WiFi.macAddress();
    mac.replace(":", "");
    mac.toLowerCase();
    if (mqtt.connect(("updraft-" + mac).c_str(), BROKER_USER, BROKER_PASSWORD)) {
        mqtt.subscribe((String("updraft/") + TYPE + "/update").c_str(), 1);
        mqtt.subscribe((String("updraft/") + TYPE + "/" + mac + "/update").c_str(), 1);
    }
}

void setup()
{
    Serial.begin(115200);
    WiFi.mode(WIFI_STA);
    WiFi.begin(SSID, PASSWORD);
    mqtt.setServer(BROKER, 1883);
    mqtt.setBufferSize(512); // its default of 256 bytes drops a longer command without a word
    mqtt.setCallback(onCommand);
}

void loop()
{
    static unsigned long triedAt;
    if (WiFi.status() != WL_CONNECTED) {
        return;
    }
    if (!mqtt.connected() && (triedAt == 0 || millis() - triedAt > 5000)) {
        triedAt = millis();
        connectMqtt();
    }
    mqtt.loop();
    if (updateDue) {
        updateDue = false;
        UPDATER.update(httpLink, askedUrl, VERSION); // restarts by itself where there was a newer image
        askedUrl = UPDATE_URL;
        Serial.println(UPDATER.getLastErrorString());
    }
    // … your own work …
}
