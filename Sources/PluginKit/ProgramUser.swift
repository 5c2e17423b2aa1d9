/// The user that the engine runs programs of the image as for plugins: those of secrets, and inputs
/// of commands that name no user. It owns nothing. Programs such as ssh-keygen refuse to run for a
/// number without a name, so the builder writes it into each image with plugins.
public enum ProgramUser {
    public static let name = "vcpe-programs"
    /// Of the range that systemd leaves free; its group has the same number.
    public static let number = 64_600
}
