/** IP addresses as text. No library for it: this is on the way of every command. */

export function isIpAddress(text: string): boolean {
  return text.includes(':') ? isIpv6Address(text) : isIpv4Address(text);
}

function isIpv4Address(text: string): boolean {
  return /^\d{1,3}(\.\d{1,3}){3}$/.test(text) && text.split('.').every((part) => Number(part) <= 255);
}

function isIpv6Address(text: string): boolean {
  return /^[0-9a-fA-F:.]+$/.test(text) && URL.canParse(`http://[${text}]/`);
}
