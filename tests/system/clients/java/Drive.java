// Drive com.segment.analytics.java: java -cp 'jars/*' Drive.java, and commands on standard input, one JSON object a line.

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.segment.analytics.Analytics;
import com.segment.analytics.Callback;
import com.segment.analytics.messages.AliasMessage;
import com.segment.analytics.messages.GroupMessage;
import com.segment.analytics.messages.IdentifyMessage;
import com.segment.analytics.messages.Message;
import com.segment.analytics.messages.MessageBuilder;
import com.segment.analytics.messages.PageMessage;
import com.segment.analytics.messages.ScreenMessage;
import com.segment.analytics.messages.TrackMessage;
import java.lang.reflect.Field;
import java.time.Instant;
import java.util.Date;
import java.util.Map;
import java.util.Scanner;
import java.util.concurrent.Phaser;

class Drive {
  static final Gson GSON = new Gson();
  static final Phaser CALLS = new Phaser(1);

  static synchronized void say(String word, Object value) {
    System.out.println(GSON.toJson(Map.of(word, value)));
  }

  /** Pause five seconds before each retry, instead of up to 30, 60 and 120 at random. */
  static void shortenPauses() throws ReflectiveOperationException {
    Field pauses = Class.forName("com.segment.analytics.internal.AnalyticsClient$BatchUploadTask")
        .getDeclaredField("BACKO");
    pauses.setAccessible(true);
    for (Map.Entry<String, ? extends Number> setting : Map.of("cap", 5000L, "jitter", 0.0).entrySet()) {
      Field field = pauses.getType().getDeclaredField(setting.getKey());
      field.setAccessible(true);
      field.set(pauses.get(null), setting.getValue());
    }
  }

  static Analytics connect(String url, String key) {
    Callback report = new Callback() {
      public void success(Message message) {
        CALLS.arriveAndDeregister();
      }

      public void failure(Message message, Throwable error) {
        say("failed", String.valueOf(error));
        CALLS.arriveAndDeregister();
      }
    };
    return Analytics.builder(key).endpoint(url).callback(report).build();
  }

  @SuppressWarnings("unchecked")
  static Map<String, ?> object(JsonObject fields, String name) {
    return GSON.fromJson(fields.get(name), Map.class);
  }

  static MessageBuilder<?, ?> builder(JsonObject fields) {
    String name = fields.has("name") ? fields.get("name").getAsString() : null;
    switch (fields.get("call").getAsString()) {
      case "identify": return IdentifyMessage.builder().traits(object(fields, "traits"));
      case "track":
        return TrackMessage.builder(fields.get("event").getAsString()).properties(object(fields, "properties"));
      case "page": return PageMessage.builder(name).properties(object(fields, "properties"));
      case "screen": return ScreenMessage.builder(name).properties(object(fields, "properties"));
      case "group": return GroupMessage.builder(fields.get("groupId").getAsString()).traits(object(fields, "traits"));
      default: return AliasMessage.builder(fields.get("previousId").getAsString());
    }
  }

  public static void main(String[] arguments) throws ReflectiveOperationException {
    shortenPauses();
    Analytics client = null;
    for (Scanner lines = new Scanner(System.in, "UTF-8"); lines.hasNextLine();) {
      JsonObject command = GSON.fromJson(lines.nextLine(), JsonObject.class);
      if (command.has("url")) client = connect(command.get("url").getAsString(), command.get("key").getAsString());
      if (command.has("call")) {
        CALLS.register();
        client.enqueue(builder(command)
            .userId(command.get("userId").getAsString())
            .timestamp(Date.from(Instant.parse(command.get("timestamp").getAsString()))));
      }
      if (command.has("flush")) {
        client.flush();
        CALLS.arriveAndAwaitAdvance();
        say("flushed", true);
      }
    }
    System.exit(0);
  }
}
