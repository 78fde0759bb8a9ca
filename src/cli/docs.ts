export function docs(): void {}
