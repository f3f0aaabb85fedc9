package rouse;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.List;
import java.util.Map;

/** A handler of Lambda as the tests want one: an echo for events, a few answers for requests. */
public final class Handler implements RequestHandler<Object, Object> {
  @Override
  public Object handleRequest(Object event, Context context) {
    if (!(event instanceof Map<?, ?> request)) {
      return event;
    }
    if (request.get("sleep") instanceof Number seconds) {
      pause(seconds.longValue() * 1000);
    }
    if (request.get("large") instanceof Number bytes) {
      return "x".repeat(bytes.intValue() - 2);
    }
    if (request.get("rawPath") == null) {
      return event;
    }
    switch ((String) request.get("rawPath")) {
      case "/fail" -> throw new IllegalStateException("on purpose");
      case "/print" -> System.out.println("printed " + request.get("rawQueryString"));
      case "/wait" -> pause(300);
      case "/binary" -> {
        return Map.of(
            "statusCode", 200,
            "headers", Map.of("content-type", "image/png"),
            "body", request.get("body"),
            "isBase64Encoded", request.get("isBase64Encoded"));
      }
      default -> { }
    }
    Object cookies = request.get("cookies");
    String all = cookies instanceof List<?> list ? String.join(",", list.stream().map(String::valueOf).toList()) : "";
    return Map.of(
        "statusCode", 201,
        "headers", Map.of("content-type", "text/plain"),
        "cookies", List.of("a=1; Secure", "b=2"),
        "body", "hello from java " + all);
  }

  private static void pause(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
