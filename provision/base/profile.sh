# Login shells find what is installed for the user alone. From vmkit's recipe "base".
case ":$PATH:" in
*":$HOME/.local/bin:"*) ;;
*) PATH="$HOME/.local/bin:$PATH" ;;
esac
export PATH
