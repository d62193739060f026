// Post a file with a key that is sent only after a challenge: java Authenticated.java URL FILE SOURCE_ID

import java.net.*;
import java.net.http.*;
import java.nio.file.*;

public class Authenticated {
    public static void main(String[] arguments) throws Exception {
        URI url = URI.create(arguments[0]);
        Path file = Path.of(arguments[1]);
        Authenticator authenticator = new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication(arguments[2], new char[0]);
            }
        };
        Authenticator.setDefault(authenticator);
        HttpURLConnection old = (HttpURLConnection) url.toURL().openConnection();
        old.setRequestMethod("POST");
        old.setDoOutput(true);
        old.getOutputStream().write(Files.readAllBytes(file));
        System.out.println(old.getResponseCode());

        HttpClient client = HttpClient.newBuilder().authenticator(authenticator).build();
        HttpRequest request = HttpRequest.newBuilder(url).POST(HttpRequest.BodyPublishers.ofFile(file)).build();
        System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
    }
}
