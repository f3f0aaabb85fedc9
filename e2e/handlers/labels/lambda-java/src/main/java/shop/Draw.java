package shop;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.events.APIGatewayV2HTTPEvent;
import com.amazonaws.services.lambda.runtime.events.APIGatewayV2HTTPResponse;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Base64;
import java.util.List;
import java.util.Map;

/** Draws labels, and counts by a cookie how many a customer has asked for. */
public final class Draw implements RequestHandler<APIGatewayV2HTTPEvent, APIGatewayV2HTTPResponse> {
  private static final String SEEN = "seen=";

  @Override
  public APIGatewayV2HTTPResponse handleRequest(APIGatewayV2HTTPEvent event, Context context) {
    if (event.getRawPath().equals("/echo")) {
      return answer(event.getHeaders().get("content-type"), event.getBody(), event.getIsBase64Encoded());
    }
    int seen = seen(event.getCookies()) + 1;
    Map<String, String> parameters = event.getQueryStringParameters();
    String text = parameters == null ? "nothing" : parameters.getOrDefault("text", "nothing");
    context.getLogger().log("label " + seen + " for " + text);
    try {
      String picture = Base64.getEncoder().encodeToString(Labels.picture(text));
      APIGatewayV2HTTPResponse answer = answer("image/png", picture, true);
      answer.setCookies(List.of(SEEN + seen + "; Path=/", "shop=rouse"));
      return answer;
    } catch (IOException failure) {
      throw new UncheckedIOException(failure);
    }
  }

  /** How many labels a customer has seen, as a cookie says. */
  private static int seen(List<String> cookies) {
    if (cookies == null) {
      return 0;
    }
    return cookies.stream()
        .filter(cookie -> cookie.startsWith(SEEN))
        .mapToInt(cookie -> Integer.parseInt(cookie.substring(SEEN.length())))
        .findFirst()
        .orElse(0);
  }

  private static APIGatewayV2HTTPResponse answer(String kind, String body, boolean encoded) {
    return APIGatewayV2HTTPResponse.builder()
        .withStatusCode(200)
        .withHeaders(Map.of("content-type", kind))
        .withBody(body)
        .withIsBase64Encoded(encoded)
        .build();
  }
}
